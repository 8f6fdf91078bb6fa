//! Journal, status: one event type, several ways out.
