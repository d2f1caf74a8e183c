//! What a worker tells is for the journal and for people: both can do without the rest of a long story.

/// Of the story of one failure.
pub(crate) const STORY_BYTES_MAX: usize = 16 * 1024;

/// Keeps the beginning.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let floor = (0..=bytes_max)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(floor);
    }
    text
}
