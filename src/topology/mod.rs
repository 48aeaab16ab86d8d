//! Who is primary; does not know clients.
