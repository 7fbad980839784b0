"""Looking at videos: where from, decoded how, and what of."""
