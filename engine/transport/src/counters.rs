//! Named counters: a structure of plain numbers, and its list of names.

/// Defines a structure of `u64` counters with `list`, which gives names and values in the order of definition.
macro_rules! counters {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $field:ident),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Default, Debug)]
        pub(crate) struct $name {
            $($(#[$doc])* pub $field: u64,)+
        }

        impl $name {
            /// Names and values, in a fixed order.
            pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),+]
            }
        }
    };
}

pub(crate) use counters;
