"""What flows: events, annotations, candidate lists, and the catalogue of attributes they speak about."""
