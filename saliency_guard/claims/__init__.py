"""What an answer claims: taken apart, and written again without some of it. Pure text, no model."""
