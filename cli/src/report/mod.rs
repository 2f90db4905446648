//! Tables and charts for people.

pub(crate) mod kept;
pub(crate) mod listing;
pub(crate) mod plot;
pub(crate) mod table;
pub(crate) mod text;
