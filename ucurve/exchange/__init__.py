"""In and out of a lab: reports, exports with pages of their own, and imports."""
