//! Whatever somebody else controls has a bound: answers, files, waits, clients.
