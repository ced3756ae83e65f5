"""How wake-ups leave and how deliveries are told genuine."""
