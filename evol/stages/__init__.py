"""The stages of the method. Each takes plain values, asks by its template, and returns plain values."""
