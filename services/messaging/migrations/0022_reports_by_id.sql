-- A report is got by its id alone. The id comes first and rises, so that the index grows at its end.
CREATE UNIQUE INDEX reports_by_id ON reports (report_id);
