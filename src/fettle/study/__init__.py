"""One dataset, all contenders, one verdict, one report."""
