//! A map of a few entries that are looked up and gone through much more often than they change: the processes of a view, the
//! groups of a process.
//!
//! A sorted vector. To go through it, which every turn of an endpoint does several times, is to go through memory in its
//! order; a look-up is a search of neighbouring entries.
//!
//! Invariant: keys are unique and ascend, so that what goes through the map goes the same way each time.

/// See the module.
#[derive(Clone, Debug)]
pub struct FewMap<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for FewMap<K, V> {
    fn default() -> FewMap<K, V> {
        FewMap { entries: Vec::new() }
    }
}

impl<K: Copy + Ord, V> FewMap<K, V> {
    /// An empty one.
    pub fn new() -> FewMap<K, V> {
        FewMap::default()
    }

    #[inline]
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| other.cmp(key))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.entries[at].1)
    }

    /// The value of a key, to change it.
    #[inline]
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.entries[at].1)
    }

    /// There is a value for this key.
    #[inline]
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// The value of a key, put in if there is none.
    pub fn or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(at, (key, value()));
                at
            }
        };
        &mut self.entries[at].1
    }

    /// Puts a value in, and gives the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|at| self.entries.remove(at).1)
    }

    /// Keeps the entries of which this is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
    }

    /// Takes all entries out.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// All entries, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// All entries, by key, to change the values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All keys, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.iter().map(|(key, _)| key)
    }

    /// All values, by key.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// All values, by key, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Whatever is put in and taken out, it is the map of the standard library.
        #[test]
        fn is_a_map(steps in proptest::collection::vec((0u8..5, 0u16..20), 1..200)) {
            let (mut few, mut model) = (FewMap::new(), BTreeMap::new());
            for (number, (step, key)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        let put = *few.or_insert_with(key, || number);
                        prop_assert_eq!(put, *model.entry(key).or_insert(number));
                    }
                    1 => {
                        few.retain(|other, _| *other != key);
                        model.remove(&key);
                    }
                    2 => prop_assert_eq!(few.insert(key, number), model.insert(key, number)),
                    3 => prop_assert_eq!(few.remove(&key), model.remove(&key)),
                    _ => {
                        if let Some(value) = few.get_mut(&key) {
                            *value += 1;
                        }
                        if let Some(value) = model.get_mut(&key) {
                            *value += 1;
                        }
                    }
                }
                prop_assert_eq!((few.get(&key), few.contains_key(&key)), (model.get(&key), model.contains_key(&key)));
                prop_assert!(few.iter().eq(model.iter()) && few.keys().eq(model.keys()) && few.values().eq(model.values()));
                prop_assert_eq!((few.len(), few.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(few.iter_mut().map(|(_, value)| value).eq(model.values_mut()) && few.values_mut().eq(model.values_mut()));
            }
            few.clear();
            prop_assert!(few.is_empty());
        }
    }
}
