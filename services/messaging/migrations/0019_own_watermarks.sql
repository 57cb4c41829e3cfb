-- Where somebody has come how far, in an order that can be read page by page.
CREATE INDEX watermarks_of_user ON watermarks (user_id, conversation_id);
DROP INDEX watermarks_by_user;
