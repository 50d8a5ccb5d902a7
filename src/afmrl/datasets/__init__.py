"""Public data sets in their own file layouts, as catalogues; splits by product and what leaks between them."""
