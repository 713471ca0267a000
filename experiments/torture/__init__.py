"""Hard but ordinary data, through jaxgmm, scikit-learn and gmmx: who is right, who says it is not, who is wrong."""
