"""How a scorecard looks: pages, charts and their text. Nothing here computes a figure."""
