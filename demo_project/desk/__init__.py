"""The travel desk: airports, itineraries, bookings."""
