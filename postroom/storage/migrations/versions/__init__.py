"""The revisions, oldest first by name. What a release contained is never changed again."""
