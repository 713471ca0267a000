"""Host: arrays, tables and weights as users pass them, checks of arguments, progress, tables in notebooks."""
