//! One client's conversation; knows neither which node is primary nor why it is held.
