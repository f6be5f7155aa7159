"""From committed tables to numbers with intervals, and a page that shows them."""
