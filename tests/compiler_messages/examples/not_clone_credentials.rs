//! A client of the program's own that is not `Clone`, in each of the other layers.

use tower::Layer;
use tower_m2m::{ClientCredentialsLayer, M2mLayer, tenants::TenantsLayer};

pub struct MyClient;

pub fn credentials(layer: &ClientCredentialsLayer) {
    drop(layer.layer(MyClient));
}

pub fn both(layer: &M2mLayer) {
    drop(layer.layer(MyClient));
}

pub fn tenants(layer: &TenantsLayer) {
    drop(layer.layer(MyClient));
}

fn main() {}
