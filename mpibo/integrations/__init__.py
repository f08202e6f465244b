"""Other libraries' forms of our objects; each module needs its library, and only when it is used."""
