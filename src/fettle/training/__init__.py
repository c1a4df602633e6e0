"""One loop for every algorithm; an algorithm is a pure step."""
