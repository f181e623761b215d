"""Navigation by pointing: a policy chooses among what the memory shows, and a controller goes there."""
