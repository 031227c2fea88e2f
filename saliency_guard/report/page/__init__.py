"""The page: one self-contained HTML file about an answer. Plain values in, text out."""
