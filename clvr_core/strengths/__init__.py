"""The search for the strengths of a merge: pictures drawn over a small grid, compared two at a time by a vision-language
model."""
