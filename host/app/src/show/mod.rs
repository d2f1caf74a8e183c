//! What people read: terminal text, dossiers and tables, made from a run's state alone.

pub mod dossier;
pub mod line;
pub mod state;
pub mod text;
pub mod timeline;
pub mod trail;
