"""Does TIC stop the right trials? Learning curves recorded once as a table, and pruners replayed on them."""
