//! Quotas by route.

use super::{Model, Verdict};
use crate::job::Job;

/// Quotas for the routes below some paths, with or without a name. Other routes have no quota.
#[derive(Default)]
pub struct Routes(Vec<Resource>);

struct Resource {
    name: Option<&'static str>,
    paths: &'static [&'static str],
    quota: Box<dyn Model>,
}

impl Routes {
    /// Adds a quota for the routes below `paths`. If it has a name, responses contain it.
    pub fn with(
        mut self,
        name: Option<&'static str>,
        paths: &'static [&'static str],
        quota: impl Model + 'static,
    ) -> Self {
        let quota = Box::new(quota);
        self.0.push(Resource { name, paths, quota });
        self
    }
}

impl Resource {
    fn counts(&self, job: &Job) -> bool {
        self.paths.iter().any(|path| job.path.starts_with(path))
    }
}

impl Model for Routes {
    fn take(&mut self, at: f64, job: &Job) -> Verdict {
        match self.0.iter_mut().find(|resource| resource.counts(job)) {
            Some(resource) => Verdict {
                resource: resource.name,
                ..resource.quota.take(at, job)
            },
            None => Verdict::uncounted(200, at),
        }
    }

    fn take_best_case(&mut self, at: f64, job: &Job) -> Verdict {
        match self.0.iter_mut().find(|resource| resource.counts(job)) {
            Some(resource) => resource.quota.take_best_case(at, job),
            None => Verdict::uncounted(200, at),
        }
    }

    fn earliest(&self, at: f64, job: &Job) -> f64 {
        let quota = self.0.iter().find(|resource| resource.counts(job));
        quota.map_or(at, |resource| resource.quota.earliest(at, job))
    }
}
