"""Facts on disk and the words derived from them: the key store, the table of statuses."""
