//! Who asks for a label, and who may take that back.

use trackpost::domain::label::{LabelKey, LabelState, Registration, Source};
use trackpost::store::labels::Removal;

use crate::house::House;

#[tokio::test]
async fn what_the_configuration_asks_for_is_not_removed_by_hand() {
    let house = House::new().await;
    let key = LabelKey { account: house.account.name.clone(), id: "se-1".parse().unwrap() };
    let configured = Registration { key: key.clone(), metadata: Default::default(), source: Source::Config };
    house.store().apply_configured(std::slice::from_ref(&configured), house.now()).await.unwrap();
    house.store().add_by_hand(&[configured], house.now()).await.unwrap();

    let removal = house.store().remove_by_hand(&key).await.unwrap();
    assert_eq!(removal, Removal::StillConfigured);
    let row = house.row("se-1").await;
    assert_eq!((row.state.as_str(), row.next_poll_at.is_some()), (LabelState::Active.as_str(), true));

    // Nobody else asks for it any more: out of the configuration it is gone.
    house.store().apply_configured(&[], house.now()).await.unwrap();
    assert_eq!(house.row("se-1").await.state, LabelState::Removed.as_str());
    assert_eq!(house.store().remove_by_hand(&key).await.unwrap(), Removal::Unknown);
}

#[tokio::test]
async fn a_journey_begins_with_the_first_look() {
    let mut house = House::new().await;
    house.register(&["se-1", "se-2"]).await;
    house.says("se-1", &crate::house::parcel::in_transit());
    house.says("se-2", &crate::house::parcel::tracking("NY", &[]));
    house.pass(crate::house::hours(1));
    house.poll().await;
    for (row, seen) in [(1, 1), (2, 0)] {
        let journey = house.store().journey(row).await.unwrap().unwrap();
        assert_eq!((journey.registered_at, journey.observations.len()), (house.now(), seen), "{journey:?}");
        assert!(journey.observations.iter().all(|first| first.at == journey.registered_at));
    }
}
