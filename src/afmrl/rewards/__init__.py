"""RAR's rewards: of attributes that a completion gives a query, or an offer of the gallery."""
