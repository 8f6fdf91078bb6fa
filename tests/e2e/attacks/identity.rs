//! Who owns a data directory, which program serves it and whose process it is: paths that an attacker bends.
