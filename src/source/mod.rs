//! Where bundles come from: the files of a lineage, what to watch, when a burst has settled.
