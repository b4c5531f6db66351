"""The metrics of a node: what counts them, what reads them, and the page that shows them."""
