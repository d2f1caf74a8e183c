//! What people read: terminal text, dossiers, reviews and tables, made from what is known alone.

pub mod cost;
pub mod dossier;
pub mod effects;
pub mod frame;
pub mod line;
pub mod page;
pub mod place;
pub mod proposal;
pub mod review;
pub mod state;
pub mod text;
pub mod timeline;
pub mod trail;
pub mod update;
