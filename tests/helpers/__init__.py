"""Networks, stores, windows and processes that several test modules use."""
