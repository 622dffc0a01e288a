"""Running compiled programs: threads, frames, execution."""
