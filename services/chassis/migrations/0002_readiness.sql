-- One row that the check of readiness changes: a database that answers and takes no writes is not ready.
CREATE TABLE readiness (
    id BIGINT NOT NULL PRIMARY KEY,
    checks BIGINT NOT NULL
);
