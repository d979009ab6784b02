"""Small inputs of real people that once came out wrong, and their relatives, each taken a user's way."""
