"""Nothing is stored here yet: checks, flags and statistics come with the quality issue."""
