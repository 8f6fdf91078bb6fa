//! Servers and files of users who have nothing to do with pgcertd.
