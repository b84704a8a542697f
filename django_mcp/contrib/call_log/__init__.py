"""A log of calls in the database: an app that keeps what the signal `call_finished` tells, for CALL_LOG_DAYS."""
