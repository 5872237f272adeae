"""Statistics of candidate sets and of judges. Pure: values in, figures out; no database, no network."""
