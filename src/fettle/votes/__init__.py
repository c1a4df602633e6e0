"""People's blind votes on two contenders' answers: what is asked, the file, the page, and what the votes amount to."""
