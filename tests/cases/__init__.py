"""Small inputs from real people that once went wrong, and similar ones, each entered as a user would."""
