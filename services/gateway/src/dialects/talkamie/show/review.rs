//! The object `review`.

use proto::auth::v1::{Rating, Review, User};
use serde_json::{Value, json};

use super::{compact, filled, moment};

/// Returns a review with its author.
pub(in crate::dialects::talkamie) fn show(review: &Review, rater: Option<&User>) -> Value {
    compact(json!({
        "id": review.review_id,
        "rate": review.rating,
        "text": review.text,
        "timestamp": moment(review.update_time),
        "rater": {
            "id": filled(&review.reviewer_user_id),
            "name": rater.and_then(|user| filled(&user.display_name)),
        },
    }))
}

/// Returns the user whom a review is about, with the rating after a change.
pub(in crate::dialects::talkamie) fn rated(user_id: &str, rating: Option<Rating>) -> Value {
    let rating = rating.unwrap_or_default();
    json!({"id": user_id, "rating": rating.mean, "totalReviews": rating.count})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_names_its_author() {
        let review = Review {
            review_id: "r".to_owned(),
            reviewer_user_id: "a".to_owned(),
            rating: 4,
            ..Review::default()
        };
        let ann = User { display_name: "Ann".to_owned(), ..User::default() };
        let shown = show(&review, Some(&ann));
        assert_eq!(shown, json!({"id": "r", "rate": 4, "text": "", "rater": {"id": "a", "name": "Ann"}}));
        assert_eq!(rated("b", None), json!({"id": "b", "rating": 0.0, "totalReviews": 0}));
    }
}
