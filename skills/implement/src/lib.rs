//! Skill.
