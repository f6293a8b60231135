//! trackpost from outside: what is shipped beside the code, and the laws of the house.

mod deploy;
mod law;
mod readme;
