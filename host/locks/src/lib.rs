//! Files as locks between processes: waiting for one, and who keeps it.

mod keeper;
mod wait;

pub use keeper::{Keeper, of_database, of_file};
pub use wait::{LockError, exclusive, shared, within};
