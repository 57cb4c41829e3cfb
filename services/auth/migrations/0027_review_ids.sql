-- Reviews are asked for by their ids, which alerts name.
CREATE INDEX reviews_id ON reviews (review_id);
