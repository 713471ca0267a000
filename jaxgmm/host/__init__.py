"""Host: what people hand over and see. Arrays, tables, weights, checks of arguments, progress."""
